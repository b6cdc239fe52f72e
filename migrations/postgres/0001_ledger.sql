-- The head of the log: one row. An append moves it by compare-and-swap on size and edge.
CREATE TABLE head (
    id         BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    size       BIGINT NOT NULL CHECK (size >= 0),
    edge       BYTEA  NOT NULL CHECK (length(edge) % 32 = 0),
    checkpoint TEXT   NOT NULL
) WITH (fillfactor = 10);

INSERT INTO head (id, size, edge, checkpoint) VALUES (1, 0, '', '');

-- The entries. bytes are the canonical ones, packed (src/ledger/packed.rs), or as they are when they begin with '{'.
-- leaf is the leaf hash of the canonical bytes; sig, on the last entry of each append, the signature of the checkpoint
-- up to it. The columns after them are derived from the bytes, for queries; ids are the 16 bytes behind their prefix.
CREATE TABLE entries (
    seq     BIGINT NOT NULL PRIMARY KEY,
    bytes   BYTEA  NOT NULL CHECK (length(bytes) BETWEEN 1 AND 32768),
    leaf    BYTEA  NOT NULL CHECK (length(leaf) = 32),
    sig     TEXT,
    kind    TEXT   NOT NULL,
    time    BIGINT NOT NULL,
    request BYTEA,
    lease   BYTEA,
    agent   TEXT,
    action  TEXT,
    actor   TEXT   NOT NULL,
    outcome TEXT,
    key     BYTEA
);

CREATE INDEX entries_by_kind    ON entries (kind, seq);
CREATE INDEX entries_by_time    ON entries (time);
CREATE INDEX entries_by_request ON entries (request, seq) WHERE request IS NOT NULL;
CREATE INDEX entries_by_lease   ON entries (lease, seq)   WHERE lease IS NOT NULL;
CREATE INDEX entries_by_agent   ON entries (agent, seq)   WHERE agent IS NOT NULL;
CREATE INDEX entries_by_action  ON entries (action, seq)  WHERE action IS NOT NULL;
CREATE INDEX entries_by_actor   ON entries (actor, seq);
CREATE INDEX entries_by_outcome ON entries (outcome, seq) WHERE outcome IS NOT NULL;
CREATE INDEX entries_by_key     ON entries (key, seq)     WHERE key IS NOT NULL;

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only: % on % is refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER entries_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON entries
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER head_stays BEFORE INSERT OR DELETE OR TRUNCATE ON head
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER head_only_grows BEFORE UPDATE ON head
    FOR EACH ROW WHEN (new.size <= old.size OR new.id <> old.id) EXECUTE FUNCTION refuse_change();

-- ALWAYS: also for a session that plays a replica (session_replication_role).
ALTER TABLE entries ENABLE ALWAYS TRIGGER entries_stay;
ALTER TABLE head ENABLE ALWAYS TRIGGER head_stays;
ALTER TABLE head ENABLE ALWAYS TRIGGER head_only_grows;

-- Texts that may be erased; entries hold their salted hash.
CREATE TABLE blobs (
    sha256 BYTEA NOT NULL PRIMARY KEY CHECK (length(sha256) = 32),
    salt   BYTEA NOT NULL CHECK (length(salt) = 16),
    bytes  BYTEA NOT NULL
);

-- A cache of the fold, sealed by the log's key.
CREATE TABLE snapshot (
    id    BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    size  BIGINT NOT NULL,
    edge  BYTEA  NOT NULL CHECK (length(edge) % 32 = 0),
    bytes BYTEA  NOT NULL,
    seal  TEXT   NOT NULL
);

-- Sessions, sign-in states, single-use token ids.
CREATE TABLE remembered (
    key     TEXT   NOT NULL PRIMARY KEY,
    value   BYTEA  NOT NULL,
    expires BIGINT NOT NULL
);

CREATE INDEX remembered_by_expires ON remembered (expires);

-- A number for each broker that connects, so that it knows its own notifications.
CREATE SEQUENCE broker_number;
