-- +goose Up
-- Who changes a container just now. Times are Unix milliseconds.
CREATE TABLE container_lock (
    cluster_id    TEXT COLLATE "C" NOT NULL,
    vmid          BIGINT NOT NULL,
    -- Whose operation has it.
    datacenter_id TEXT COLLATE "C" NOT NULL,
    user_id       TEXT COLLATE "C" NOT NULL,
    operation_id  TEXT COLLATE "C" NOT NULL,
    -- From then on anybody may take it.
    lease_until   BIGINT NOT NULL,
    PRIMARY KEY (cluster_id, vmid)
);

CREATE INDEX container_lock_operation ON container_lock (operation_id);

-- Changes of many containers in one go.
CREATE TABLE bulk_run (
    id            TEXT COLLATE "C" PRIMARY KEY,
    datacenter_id TEXT COLLATE "C" NOT NULL,
    user_id       TEXT COLLATE "C" NOT NULL,
    action        TEXT COLLATE "C" NOT NULL,
    created_at    BIGINT NOT NULL,
    -- Until then a process works on it.
    driven_until  BIGINT NOT NULL
);

CREATE INDEX bulk_run_owner ON bulk_run (datacenter_id, user_id);

-- Changes of containers, those of the past included.
CREATE TABLE operation (
    id            TEXT COLLATE "C" PRIMARY KEY,
    datacenter_id TEXT COLLATE "C" NOT NULL,
    user_id       TEXT COLLATE "C" NOT NULL,
    node_id       TEXT COLLATE "C" NOT NULL,
    cluster_id    TEXT COLLATE "C" NOT NULL,
    member        TEXT COLLATE "C" NOT NULL,
    vmid          BIGINT NOT NULL,
    name          TEXT COLLATE "C" NOT NULL,
    action        TEXT COLLATE "C" NOT NULL,
    -- The run that it is a part of, and where it stands in it.
    bulk_id       TEXT COLLATE "C" REFERENCES bulk_run (id) ON DELETE CASCADE,
    place         BIGINT NOT NULL,
    -- waiting, sending, running; done, failed, canceled, unknown
    state         TEXT COLLATE "C" NOT NULL,
    upid          TEXT COLLATE "C" NOT NULL,
    -- The container's newest task before this one was sent.
    after_upid    TEXT COLLATE "C" NOT NULL,
    error         TEXT COLLATE "C" NOT NULL,
    created_at    BIGINT NOT NULL,
    ended_at      BIGINT,
    seen          BOOLEAN NOT NULL
);

CREATE INDEX operation_owner ON operation (datacenter_id, user_id, created_at);
CREATE INDEX operation_open ON operation (datacenter_id, user_id, state) WHERE ended_at IS NULL;
CREATE INDEX operation_unseen ON operation (datacenter_id, user_id, ended_at) WHERE NOT seen AND ended_at IS NOT NULL;
CREATE INDEX operation_bulk ON operation (bulk_id, place);
CREATE INDEX operation_ended ON operation (ended_at);

-- +goose Down
DROP TABLE operation;
DROP TABLE bulk_run;
DROP TABLE container_lock;
