-- Every table has the columns it is searched by, and the object itself as JSON
-- in body: the guild's owner holds the whole guild in memory and is the only
-- one that looks inside. The same statements run on SQLite and PostgreSQL, so
-- there are no BLOBs (hashes are hex, secrets base64) and no timestamps
-- (milliseconds since 1970).

-- +goose Up
CREATE TABLE users (
    id            BIGINT PRIMARY KEY,
    username_key  TEXT   NOT NULL UNIQUE,
    password_hash TEXT   NOT NULL,
    created_at    BIGINT NOT NULL,
    body          TEXT   NOT NULL
);

CREATE TABLE tokens (
    hash       TEXT   PRIMARY KEY,
    user_id    BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX tokens_user ON tokens (user_id);

CREATE TABLE applications (
    id       BIGINT PRIMARY KEY,
    bot_id   BIGINT NOT NULL UNIQUE,
    owner_id BIGINT NOT NULL,
    body     TEXT   NOT NULL
);

CREATE TABLE guilds (
    id   BIGINT PRIMARY KEY,
    body TEXT   NOT NULL
);

CREATE TABLE channels (
    id       BIGINT PRIMARY KEY,
    guild_id BIGINT NOT NULL,
    body     TEXT   NOT NULL
);
CREATE INDEX channels_guild ON channels (guild_id);

CREATE TABLE roles (
    guild_id BIGINT NOT NULL,
    id       BIGINT NOT NULL,
    body     TEXT   NOT NULL,
    PRIMARY KEY (guild_id, id)
);

CREATE TABLE members (
    guild_id BIGINT NOT NULL,
    user_id  BIGINT NOT NULL,
    body     TEXT   NOT NULL,
    PRIMARY KEY (guild_id, user_id)
);
CREATE INDEX members_user ON members (user_id, guild_id);

CREATE TABLE invites (
    code       TEXT   PRIMARY KEY,
    guild_id   BIGINT NOT NULL,
    inviter_id BIGINT NOT NULL,
    body       TEXT   NOT NULL
);
CREATE INDEX invites_guild ON invites (guild_id);

CREATE TABLE messages (
    channel_id BIGINT NOT NULL,
    id         BIGINT NOT NULL,
    guild_id   BIGINT NOT NULL,
    author_id  BIGINT NOT NULL,
    body       TEXT   NOT NULL,
    PRIMARY KEY (channel_id, id)
);
CREATE INDEX messages_guild ON messages (guild_id);

CREATE TABLE commands (
    id             BIGINT PRIMARY KEY,
    application_id BIGINT NOT NULL,
    guild_id       BIGINT NOT NULL,
    type           BIGINT NOT NULL,
    name           TEXT   NOT NULL,
    body           TEXT   NOT NULL,
    UNIQUE (application_id, guild_id, type, name)
);

CREATE TABLE secrets (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- +goose Down
DROP TABLE secrets;
DROP TABLE commands;
DROP TABLE messages;
DROP TABLE invites;
DROP TABLE members;
DROP TABLE roles;
DROP TABLE channels;
DROP TABLE guilds;
DROP TABLE applications;
DROP TABLE tokens;
DROP TABLE users;
