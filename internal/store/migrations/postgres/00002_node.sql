-- +goose Up
-- Times are Unix milliseconds.
CREATE TABLE identity (
    datacenter_id   TEXT COLLATE "C" NOT NULL REFERENCES datacenter (id),
    user_id         TEXT COLLATE "C" NOT NULL,
    created_at      BIGINT NOT NULL,
    last_sign_in_at BIGINT NOT NULL,
    -- What its pages remember, as JSON; empty at first.
    preferences     TEXT COLLATE "C" NOT NULL DEFAULT '',
    PRIMARY KEY (datacenter_id, user_id)
);

CREATE INDEX identity_last_sign_in ON identity (last_sign_in_at);

CREATE TABLE node (
    id               TEXT COLLATE "C" PRIMARY KEY,
    datacenter_id    TEXT COLLATE "C" NOT NULL,
    user_id          TEXT COLLATE "C" NOT NULL,
    name             TEXT COLLATE "C" NOT NULL,
    -- The name in lower case.
    name_key         TEXT COLLATE "C" NOT NULL,
    host             TEXT COLLATE "C" NOT NULL,
    port             BIGINT NOT NULL,
    -- The login host that a node with the session's ticket leads to; NULL once that one was removed.
    login_host_id    TEXT COLLATE "C" REFERENCES login_host (id) ON DELETE SET NULL,
    -- session, token, made
    credential       TEXT COLLATE "C" NOT NULL,
    -- SHA-256 of the pinned public key; NULL when the certificate verifies against the roots, and for session.
    key_pin          BYTEA,
    -- SHA-256 of the certificate that was accepted last; NULL before the first look.
    fingerprint      BYTEA,
    -- What the node showed of the installation behind it when it was tested last, as JSON.
    members          TEXT COLLATE "C" NOT NULL,
    -- Shared by all nodes, whoever owns them, that were proven to lead to the same installation.
    cluster_id       TEXT COLLATE "C" NOT NULL,
    -- Shared by nodes of one owner who said that they lead to the same installation; empty for none.
    group_id         TEXT COLLATE "C" NOT NULL,
    is_default       BOOLEAN NOT NULL,
    -- user@realm!name; empty for session.
    token_id         TEXT COLLATE "C" NOT NULL,
    -- The token's secret, sealed; NULL for session.
    secret           BYTEA,
    -- 0 when it does not expire, or nobody knows.
    token_expires_at BIGINT NOT NULL,
    created_at       BIGINT NOT NULL,
    -- Counts the changes, so that none is made from what is not so any more.
    version          BIGINT NOT NULL DEFAULT 0,
    FOREIGN KEY (datacenter_id, user_id) REFERENCES identity (datacenter_id, user_id),
    UNIQUE (datacenter_id, user_id, name_key)
);

CREATE UNIQUE INDEX node_default ON node (datacenter_id, user_id) WHERE is_default;
CREATE INDEX node_key_pin ON node (key_pin);
CREATE INDEX node_fingerprint ON node (fingerprint);
CREATE INDEX node_cluster ON node (cluster_id);

-- API tokens that were made on hosts, from before the call that makes one until it was removed there.
CREATE TABLE api_token (
    id            TEXT COLLATE "C" PRIMARY KEY,
    datacenter_id TEXT COLLATE "C" NOT NULL,
    user_id       TEXT COLLATE "C" NOT NULL,
    -- The node that uses it, and its name, which outlives it.
    node_id       TEXT COLLATE "C" NOT NULL,
    node_name     TEXT COLLATE "C" NOT NULL,
    host          TEXT COLLATE "C" NOT NULL,
    port          BIGINT NOT NULL,
    -- As in node.
    login_host_id TEXT COLLATE "C" REFERENCES login_host (id) ON DELETE SET NULL,
    key_pin       BYTEA,
    -- user@realm!name
    token_id      TEXT COLLATE "C" NOT NULL,
    -- pending, active, left_over
    state         TEXT COLLATE "C" NOT NULL,
    created_at    BIGINT NOT NULL,
    expires_at    BIGINT NOT NULL,
    FOREIGN KEY (datacenter_id, user_id) REFERENCES identity (datacenter_id, user_id)
);

CREATE INDEX api_token_owner ON api_token (datacenter_id, user_id);

CREATE TRIGGER identity_change AFTER INSERT OR DELETE OR UPDATE OF preferences ON identity FOR EACH ROW EXECUTE FUNCTION tell_change();
CREATE TRIGGER node_change AFTER INSERT OR UPDATE OR DELETE ON node FOR EACH ROW EXECUTE FUNCTION tell_change();
CREATE TRIGGER api_token_change AFTER INSERT OR UPDATE OR DELETE ON api_token FOR EACH ROW EXECUTE FUNCTION tell_change();

-- +goose Down
DROP TABLE api_token;
DROP TABLE node;
DROP TABLE identity;
