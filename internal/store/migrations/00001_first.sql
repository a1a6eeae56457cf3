-- +goose Up
CREATE TABLE installation (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    created_at BIGINT NOT NULL,
    -- A known text sealed with the installation's key: tells a wrong key file from the right one.
    key_check  BLOB NOT NULL,
    -- The datacenter whose first sign-in claimed the installation; NULL while nobody has.
    claimed_by TEXT REFERENCES datacenter (id),
    -- What the first sign-in must know when it comes from beyond loopback, sealed; NULL once claimed.
    claim_code BLOB,
    -- Grows with each beginning and end of serving; a file beside the database has the highest, to tell an older copy.
    epoch      BIGINT NOT NULL DEFAULT 0,
    -- Which files may hold that highest one, by what no copy of a file has; empty where nothing is known of them.
    epoch_file TEXT NOT NULL DEFAULT ''
);

CREATE TABLE datacenter (
    id         TEXT PRIMARY KEY,
    created_at BIGINT NOT NULL
);

CREATE TABLE login_host (
    id            TEXT PRIMARY KEY,
    datacenter_id TEXT NOT NULL REFERENCES datacenter (id),
    host          TEXT NOT NULL,
    port          BIGINT NOT NULL,
    -- SHA-256 of the pinned public key; NULL when the certificate verifies against the roots.
    key_pin       BLOB,
    -- SHA-256 of the certificate last seen, for people to compare.
    fingerprint   BLOB NOT NULL,
    created_at    BIGINT NOT NULL,
    UNIQUE (host, port)
);

-- Times are Unix milliseconds.
CREATE TABLE session (
    hash          BLOB PRIMARY KEY,
    datacenter_id TEXT NOT NULL REFERENCES datacenter (id),
    user_id       TEXT NOT NULL,
    login_host_id TEXT NOT NULL REFERENCES login_host (id),
    realm         TEXT NOT NULL,
    secret        BLOB NOT NULL,
    generation    BIGINT NOT NULL,
    ticket_at     BIGINT NOT NULL,
    created_at    BIGINT NOT NULL,
    last_seen_at  BIGINT NOT NULL,
    ends_at       BIGINT NOT NULL,
    address       TEXT NOT NULL,
    user_agent    TEXT NOT NULL,
    -- Where it was used from last; empty when unknown.
    last_address  TEXT NOT NULL
);

CREATE INDEX session_owner ON session (datacenter_id, user_id);
CREATE INDEX session_last_seen ON session (last_seen_at);
CREATE INDEX session_ticket ON session (ticket_at);

-- Sessions that were ended before their time, so that an older copy of the sessions does not bring them back.
CREATE TABLE ended_session (
    hash     BLOB PRIMARY KEY,
    ended_at BIGINT NOT NULL,
    -- From then on the session would have ended by itself.
    until    BIGINT NOT NULL
);

CREATE INDEX ended_session_until ON ended_session (until);

-- Who did what; rows are only ever added, and removed when they are older than the operator keeps them.
CREATE TABLE audit (
    id                    INTEGER PRIMARY KEY AUTOINCREMENT,
    at                    BIGINT NOT NULL,
    -- Without a datacenter nobody was signed in, and user_id is what was typed.
    datacenter_id         TEXT NOT NULL,
    user_id               TEXT NOT NULL,
    -- To whom it was done, if to somebody else; else empty.
    subject_datacenter_id TEXT NOT NULL,
    subject_user_id       TEXT NOT NULL,
    address               TEXT NOT NULL,
    -- Where the address belongs to: of refused sign-ins each network keeps its share.
    network               TEXT NOT NULL,
    -- Whose business it is beside its user's; settled when the row is added.
    category              TEXT NOT NULL,
    action                TEXT NOT NULL,
    target                TEXT NOT NULL,
    result                TEXT NOT NULL,
    error_id              TEXT NOT NULL,
    detail                TEXT NOT NULL,
    -- How many attempts the row stands for.
    attempts              BIGINT NOT NULL
);

-- +goose StatementBegin
CREATE TRIGGER audit_append_only BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'entries of the audit trail are never changed');
END;
-- +goose StatementEnd

CREATE INDEX audit_owner ON audit (datacenter_id, user_id, id);
CREATE INDEX audit_subject ON audit (subject_datacenter_id, subject_user_id, id) WHERE subject_user_id <> '';
CREATE INDEX audit_at ON audit (at);
CREATE INDEX audit_refused ON audit (network, id) WHERE category = 'sign_in' AND result = 'refused';

-- Browsers and addresses that signed in with an account: what others try does not slow them.
CREATE TABLE familiar (
    datacenter_id TEXT NOT NULL REFERENCES datacenter (id),
    -- In lower case, as attempts are counted.
    user_id       TEXT NOT NULL,
    -- browser, address
    kind          TEXT NOT NULL,
    -- SHA-256 of the browser's cookie or of the address's network.
    mark          BLOB NOT NULL,
    seen_at       BIGINT NOT NULL,
    PRIMARY KEY (datacenter_id, user_id, kind, mark)
);

CREATE INDEX familiar_mark ON familiar (mark);
CREATE INDEX familiar_seen ON familiar (datacenter_id, seen_at);

-- +goose Down
DROP TABLE familiar;
DROP TABLE audit;
DROP TABLE ended_session;
DROP TABLE session;
DROP TABLE login_host;
DROP TABLE installation;
DROP TABLE datacenter;
