// Package guild owns one guild's state and rules: channels, roles, members,
// permissions, invites, presences and voice states. It takes requests and says
// what is to be stored, sent and answered. It never does any of it, and never
// asks another guild.
package guild
