-- +goose Up
-- Times are Unix milliseconds.
CREATE TABLE identity (
    datacenter_id   TEXT NOT NULL REFERENCES datacenter (id),
    user_id         TEXT NOT NULL,
    created_at      BIGINT NOT NULL,
    last_sign_in_at BIGINT NOT NULL,
    -- What its pages remember, as JSON; empty at first.
    preferences     TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (datacenter_id, user_id)
);

CREATE INDEX identity_last_sign_in ON identity (last_sign_in_at);

CREATE TABLE node (
    id               TEXT PRIMARY KEY,
    datacenter_id    TEXT NOT NULL,
    user_id          TEXT NOT NULL,
    name             TEXT NOT NULL,
    -- The name in lower case.
    name_key         TEXT NOT NULL,
    host             TEXT NOT NULL,
    port             BIGINT NOT NULL,
    -- The login host that a node with the session's ticket leads to; NULL once that one was removed.
    login_host_id    TEXT REFERENCES login_host (id) ON DELETE SET NULL,
    -- session, token, made
    credential       TEXT NOT NULL,
    -- SHA-256 of the pinned public key; NULL when the certificate verifies against the roots, and for session.
    key_pin          BLOB,
    -- SHA-256 of the certificate that was accepted last; NULL before the first look.
    fingerprint      BLOB,
    -- What the node showed of the installation behind it when it was tested last, as JSON.
    members          TEXT NOT NULL,
    -- Shared by all nodes, whoever owns them, that were proven to lead to the same installation.
    cluster_id       TEXT NOT NULL,
    -- Shared by nodes of one owner who said that they lead to the same installation; empty for none.
    group_id         TEXT NOT NULL,
    is_default       BOOLEAN NOT NULL,
    -- user@realm!name; empty for session.
    token_id         TEXT NOT NULL,
    -- The token's secret, sealed; NULL for session.
    secret           BLOB,
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
    id            TEXT PRIMARY KEY,
    datacenter_id TEXT NOT NULL,
    user_id       TEXT NOT NULL,
    -- The node that uses it, and its name, which outlives it.
    node_id       TEXT NOT NULL,
    node_name     TEXT NOT NULL,
    host          TEXT NOT NULL,
    port          BIGINT NOT NULL,
    -- As in node.
    login_host_id TEXT REFERENCES login_host (id) ON DELETE SET NULL,
    key_pin       BLOB,
    -- user@realm!name
    token_id      TEXT NOT NULL,
    -- pending, active, left_over
    state         TEXT NOT NULL,
    created_at    BIGINT NOT NULL,
    expires_at    BIGINT NOT NULL,
    FOREIGN KEY (datacenter_id, user_id) REFERENCES identity (datacenter_id, user_id)
);

CREATE INDEX api_token_owner ON api_token (datacenter_id, user_id);

-- +goose Down
DROP TABLE api_token;
DROP TABLE node;
DROP TABLE identity;
