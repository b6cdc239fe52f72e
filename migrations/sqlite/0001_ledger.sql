-- The head of the log: one row. An append moves it by compare-and-swap on size and edge.
CREATE TABLE head (
    id         INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    size       INTEGER NOT NULL CHECK (size >= 0),
    edge       BLOB    NOT NULL CHECK (length(edge) % 32 = 0),
    checkpoint TEXT    NOT NULL
) STRICT;

INSERT INTO head (id, size, edge, checkpoint) VALUES (1, 0, x'', '');

CREATE TRIGGER head_stays BEFORE DELETE ON head
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: DELETE on head is refused'); END;

CREATE TRIGGER head_only_grows BEFORE UPDATE ON head WHEN new.size <= old.size OR new.id <> old.id
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: the head only grows'); END;

CREATE TRIGGER head_is_one BEFORE INSERT ON head
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: INSERT on head is refused'); END;

-- The entries. bytes are the canonical ones, packed (src/ledger/packed.rs), or as they are when they begin with '{'.
-- leaf is the leaf hash of the canonical bytes; sig, on the last entry of each append, the signature of the checkpoint
-- up to it. The columns after them are derived from the bytes, for queries; ids are the 16 bytes behind their prefix.
CREATE TABLE entries (
    seq     INTEGER NOT NULL PRIMARY KEY,
    bytes   BLOB    NOT NULL CHECK (length(bytes) BETWEEN 1 AND 32768),
    leaf    BLOB    NOT NULL CHECK (length(leaf) = 32),
    sig     TEXT,
    kind    TEXT    NOT NULL,
    time    INTEGER NOT NULL,
    request BLOB,
    lease   BLOB,
    agent   TEXT,
    action  TEXT,
    actor   TEXT    NOT NULL,
    outcome TEXT,
    key     BLOB
) STRICT;

-- Each index ends in the row's number, which is seq.
CREATE INDEX entries_by_kind    ON entries (kind);
CREATE INDEX entries_by_time    ON entries (time);
CREATE INDEX entries_by_request ON entries (request) WHERE request IS NOT NULL;
CREATE INDEX entries_by_lease   ON entries (lease)   WHERE lease IS NOT NULL;
CREATE INDEX entries_by_agent   ON entries (agent)   WHERE agent IS NOT NULL;
CREATE INDEX entries_by_action  ON entries (action)  WHERE action IS NOT NULL;
CREATE INDEX entries_by_actor   ON entries (actor);
CREATE INDEX entries_by_outcome ON entries (outcome) WHERE outcome IS NOT NULL;
CREATE INDEX entries_by_key     ON entries (key)     WHERE key IS NOT NULL;

CREATE TRIGGER entries_are_not_changed BEFORE UPDATE ON entries
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: UPDATE on entries is refused'); END;

CREATE TRIGGER entries_are_not_deleted BEFORE DELETE ON entries
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: DELETE on entries is refused'); END;

-- REPLACE deletes without firing the trigger above; an entry that is no successor is refused here.
CREATE TRIGGER entries_are_contiguous BEFORE INSERT ON entries
WHEN new.seq <> (SELECT coalesce(max(seq) + 1, 0) FROM entries)
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: an entry has the next index'); END;

-- Texts that may be erased; entries hold their salted hash.
CREATE TABLE blobs (
    sha256 BLOB NOT NULL PRIMARY KEY CHECK (length(sha256) = 32),
    salt   BLOB NOT NULL CHECK (length(salt) = 16),
    bytes  BLOB NOT NULL
) STRICT;

-- A cache of the fold, sealed by the log's key.
CREATE TABLE snapshot (
    id    INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    size  INTEGER NOT NULL,
    edge  BLOB    NOT NULL CHECK (length(edge) % 32 = 0),
    bytes BLOB    NOT NULL,
    seal  TEXT    NOT NULL
) STRICT;

-- Sessions, sign-in states, single-use token ids.
CREATE TABLE remembered (
    key     TEXT    NOT NULL PRIMARY KEY,
    value   BLOB    NOT NULL,
    expires INTEGER NOT NULL
) STRICT;

CREATE INDEX remembered_by_expires ON remembered (expires);
