-- +goose Up
-- Has a row while an installation is being moved here from another database, and none before and after.
CREATE TABLE transfer (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    -- Tells the installation that is being moved.
    source   TEXT NOT NULL,
    -- Unix milliseconds.
    began_at BIGINT NOT NULL
);

-- +goose Down
DROP TABLE transfer;
