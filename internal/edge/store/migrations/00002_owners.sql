-- A guild has one owner at a time. Who takes it raises the generation; a write
-- names the generation that it was made in, and is refused under a later one.
-- Node numbers make ids unique in a fleet: each is leased until expires
-- (milliseconds since 1970).

-- +goose Up
ALTER TABLE guilds ADD COLUMN owner TEXT NOT NULL DEFAULT '';
ALTER TABLE guilds ADD COLUMN generation BIGINT NOT NULL DEFAULT 0;

CREATE TABLE numbers (
    number  BIGINT PRIMARY KEY,
    holder  TEXT   NOT NULL,
    expires BIGINT NOT NULL
);

-- +goose Down
DROP TABLE numbers;
ALTER TABLE guilds DROP COLUMN generation;
ALTER TABLE guilds DROP COLUMN owner;
