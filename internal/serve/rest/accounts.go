package rest

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"strings"
	"time"
	"unicode"

	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/core/token"
	"hubbub.dev/hubbub/internal/edge/store"
	"hubbub.dev/hubbub/proto"
)

// Log-in is limited twice: what one address may try in all, and what it may try
// of one account.
var (
	loginQuota   = quota{30, 5 * time.Minute}
	accountQuota = quota{5, time.Minute}
)

// hashTimeout bounds the wait for a slot to hash in.
const hashTimeout = 5 * time.Second

func (s *Service) accountRoutes() []route {
	registrations := quota{s.cfg.Registrations, 10 * time.Minute}
	return []route{
		{pattern: "POST /auth/register", auth: anybody, quota: registrations, handle: s.register},
		{pattern: "POST /auth/login", auth: anybody, quota: loginQuota, handle: s.login},
		{pattern: "POST /auth/logout", handle: s.logout},
		{pattern: "POST /users/@me/claim", auth: person, quota: quota{5, time.Minute}, handle: s.claim},
	}
}

// session is the answer to whoever signed up or in.
type session struct {
	Token   string          `json:"token"`
	UserID  proto.Snowflake `json:"user_id"`
	GuildID proto.Snowflake `json:"guild_id,omitempty"`
}

type registration struct {
	Username   string `json:"username"`
	Password   string `json:"password"`
	GlobalName string `json:"global_name"`
	Invite     string `json:"invite"`
}

// guest reports whether somebody enters by an invite with a name alone.
func (b registration) guest() bool { return b.Password == "" && b.Username == "" && b.Invite != "" }

// register makes an account, or a guest of an invite, and joins it to the
// invite's guild.
func (s *Service) register(r *request) (reply, error) {
	var body registration
	if err := decode(r.body, &body); err != nil {
		return reply{}, err
	}
	if s.cfg.Registration == RegistrationClosed {
		return reply{}, fail(http.StatusForbidden, proto.ErrRegistrationClosed, "Registration is closed on this server")
	}
	if s.cfg.Registration == RegistrationInvite && body.Invite == "" {
		return reply{}, invalid("invite", "INVITE_REQUIRED", "You need an invite to make an account on this server.")
	}
	var f form
	user := store.User{CreatedAt: time.Now()}
	if body.guest() {
		user.Guest = true
		body.GlobalName = f.globalName(body.GlobalName)
	} else {
		user.Username = f.username(body.Username)
		f.length("password", len(body.Password), minPassword, maxPassword)
		if body.GlobalName != "" {
			body.GlobalName = f.globalName(body.GlobalName)
		}
	}
	if err := f.err(); err != nil {
		return reply{}, err
	}
	if body.GlobalName != "" {
		user.GlobalName = &body.GlobalName
	}
	var home proto.Snowflake
	if body.Invite != "" {
		// A dead invite must not leave an account behind.
		var err error
		if home, err = s.guildOfInvite(r.ctx, body.Invite); err != nil {
			return reply{}, err
		}
		if err := s.askFor(r.ctx, r.actor(), home, guild.OpInviteGet, map[string]string{"code": body.Invite}, nil, nil); err != nil {
			return reply{}, err
		}
	}
	if err := s.createAccount(r.ctx, &user, body.Password); err != nil {
		return reply{}, err
	}
	if home != 0 {
		err := s.askFor(r.ctx, guild.Actor{User: user.User}, home, guild.OpMemberJoin, map[string]string{"code": body.Invite}, nil, nil)
		if err != nil && user.Guest {
			return reply{}, err
		}
		if err != nil {
			home = 0 // the account stands; it can use another invite
		}
	}
	bearer, err := s.newToken(r.ctx, user.ID)
	if err != nil {
		return reply{}, err
	}
	return created(session{bearer, user.ID, home})
}

// createAccount gives user an id, a password hash and, for a guest, a username,
// and stores it.
func (s *Service) createAccount(ctx context.Context, user *store.User, password string) error {
	user.Discriminator = "0"
	if password != "" {
		var err error
		if user.PasswordHash, err = s.hash(ctx, password); err != nil {
			return err
		}
	}
	if !user.Guest {
		user.ID = s.newID()
		return usernameFailure(s.store.CreateUser(ctx, *user))
	}
	err := store.ErrTaken
	for try := 0; errors.Is(err, store.ErrTaken) && try < 8; try++ {
		user.ID, user.Username = s.newID(), guestName(*user.GlobalName)
		err = s.store.CreateUser(ctx, *user)
	}
	return err
}

// guestName derives a username from what a guest is called: its letters that a
// username may have, and a random end.
func guestName(called string) string {
	name := strings.Map(func(c rune) rune {
		if strings.ContainsRune(usernameLetters, c) && c != '.' {
			return c
		}
		return -1
	}, strings.ToLower(called))
	if name == "" {
		name = "guest"
	}
	return name[:min(len(name), maxUsername-7)] + "." + strings.ToLower(rand.Text()[:6])
}

// unprintable reports what shows nothing or breaks a line of text.
func unprintable(c rune) bool { return !unicode.IsGraphic(c) || unicode.Is(unicode.Zl, c) }

func (s *Service) hash(ctx context.Context, password string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, hashTimeout)
	defer cancel()
	phc, err := s.hasher.hash(ctx, password)
	if ctx.Err() != nil {
		return "", unavailable()
	}
	return phc, err
}

// newToken makes a bearer token of a user.
func (s *Service) newToken(ctx context.Context, user proto.Snowflake) (string, error) {
	now := time.Now()
	bearer, err := token.NewBearer(user, now, rand.Reader)
	if err != nil {
		return "", err
	}
	return bearer, s.store.PutToken(ctx, user, token.Hash(bearer), now)
}

func (s *Service) login(r *request) (reply, error) {
	var body struct {
		Login    string `json:"login"`
		Password string `json:"password"`
	}
	if err := decode(r.body, &body); err != nil {
		return reply{}, err
	}
	name := strings.ToLower(strings.TrimSpace(body.Login))
	if v := s.ofClient(r.client, "login", name, accountQuota, 1); !v.ok {
		return reply{}, &limited{after: v.after, scope: "user", bucket: "login"}
	}
	if len(body.Password) > maxPassword {
		return reply{}, wrongLogin()
	}
	user, err := s.store.UserByUsername(r.ctx, name)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return reply{}, err
	}
	ctx, cancel := context.WithTimeout(r.ctx, hashTimeout)
	defer cancel()
	right, err := s.hasher.verify(ctx, user.PasswordHash, body.Password)
	switch {
	case ctx.Err() != nil:
		return reply{}, unavailable()
	case err != nil:
		return reply{}, err
	case !right:
		return reply{}, wrongLogin()
	}
	bearer, err := s.newToken(r.ctx, user.ID)
	if err != nil {
		return reply{}, err
	}
	return ok(session{Token: bearer, UserID: user.ID})
}

// wrongLogin does not say which of the two is wrong.
func wrongLogin() error {
	var f form
	f.wrong("login", "INVALID_LOGIN", "Login or password is invalid.")
	f.wrong("password", "INVALID_LOGIN", "Login or password is invalid.")
	return f.err()
}

func (s *Service) logout(r *request) (reply, error) {
	if err := s.store.DeleteToken(r.ctx, r.token); err != nil && !errors.Is(err, store.ErrNotFound) {
		return reply{}, err
	}
	s.broadcast(guild.GatewayMessage{Revoked: &guild.Revocation{User: r.user.ID, Hash: r.token[:]}})
	return noContent()
}

// claim turns a guest into an account. Its token and its sessions stay.
func (s *Service) claim(r *request) (reply, error) {
	if !r.user.Guest {
		return reply{}, fail(http.StatusBadRequest, proto.ErrInvalidFormBody, "This account is claimed already")
	}
	var body registration
	if err := decode(r.body, &body); err != nil {
		return reply{}, err
	}
	var f form
	user := r.user
	user.Username = f.username(body.Username)
	f.length("password", len(body.Password), minPassword, maxPassword)
	if err := f.err(); err != nil {
		return reply{}, err
	}
	var err error
	if user.PasswordHash, err = s.hash(r.ctx, body.Password); err != nil {
		return reply{}, err
	}
	user.Guest = false
	if err := s.store.UpdateUser(r.ctx, user); err != nil {
		return reply{}, usernameFailure(err)
	}
	s.tellUser(user.ID, "USER_UPDATE", asCurrent(user.User))
	s.tellGuilds(r, user.User)
	return ok(session{Token: r.bearer, UserID: user.ID})
}
