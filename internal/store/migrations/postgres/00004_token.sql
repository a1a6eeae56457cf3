-- +goose Up
-- Personal access tokens of Berth's own API. Times are Unix milliseconds.
CREATE TABLE access_token (
    id            TEXT COLLATE "C" PRIMARY KEY,
    -- SHA-256 of the token's text.
    hash          BYTEA NOT NULL UNIQUE,
    datacenter_id TEXT COLLATE "C" NOT NULL,
    user_id       TEXT COLLATE "C" NOT NULL,
    name          TEXT COLLATE "C" NOT NULL,
    -- read, power, all
    scope         TEXT COLLATE "C" NOT NULL,
    created_at    BIGINT NOT NULL,
    expires_at    BIGINT NOT NULL,
    -- 0 until it is used.
    last_used_at  BIGINT NOT NULL,
    FOREIGN KEY (datacenter_id, user_id) REFERENCES identity (datacenter_id, user_id),
    UNIQUE (datacenter_id, user_id, name)
);

CREATE INDEX access_token_expires ON access_token (expires_at);

CREATE TRIGGER access_token_change AFTER DELETE OR UPDATE OF scope, expires_at ON access_token FOR EACH ROW EXECUTE FUNCTION tell_change();

-- +goose Down
DROP TABLE access_token;
