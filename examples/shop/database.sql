-- The shop's data, and what its DBA prepares once so that Countersign can mint credentials for it.
--
--     createdb shop
--     psql -d shop -v ON_ERROR_STOP=1 -f examples/shop/database.sql
--     psql -d shop -c '\password countersign_broker'     and the same password into the file broker-password
--
-- Plain SQL for PostgreSQL 15 and later, run as a superuser, connected to the database `shop`. Running it again is harmless.

BEGIN;

-- --- The shop -----------------------------------------------------------------------------------------------------

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'shop_owner') THEN
        CREATE ROLE shop_owner NOLOGIN;
    END IF;
END
$$;

CREATE SCHEMA IF NOT EXISTS shop AUTHORIZATION shop_owner;

CREATE TABLE IF NOT EXISTS shop.customers (
    id bigint PRIMARY KEY,
    name text NOT NULL,
    country text NOT NULL,
    email text NOT NULL,
    card_last4 text NOT NULL
);

CREATE TABLE IF NOT EXISTS shop.orders (
    id bigint PRIMARY KEY,
    customer_id bigint NOT NULL REFERENCES shop.customers (id),
    status text NOT NULL,
    amount_cents bigint NOT NULL,
    created_at timestamptz NOT NULL
);

ALTER TABLE shop.customers OWNER TO shop_owner;
ALTER TABLE shop.orders OWNER TO shop_owner;

INSERT INTO shop.customers (id, name, country, email, card_last4) VALUES
    (1, 'Anja Vogel', 'de', 'anja@example.com', '4242'),
    (2, 'Bernd Krause', 'de', 'bernd@example.com', '1881'),
    (3, 'Camille Roux', 'fr', 'camille@example.com', '0005'),
    (4, 'Denis Petit', 'fr', 'denis@example.com', '4444'),
    (5, 'Elena Ruiz', 'es', 'elena@example.com', '1117'),
    (6, 'Fermín Sanz', 'es', 'fermin@example.com', '0341')
ON CONFLICT DO NOTHING;

INSERT INTO shop.orders (id, customer_id, status, amount_cents, created_at)
SELECT n, 1 + n % 6, CASE WHEN n % 5 = 0 THEN 'refunded' ELSE 'paid' END, 500 + 137 * (n % 29),
       timestamptz '2026-01-01 00:00:00+00' + n * interval '7 hours'
FROM generate_series(1, 200) AS n
ON CONFLICT DO NOTHING;

-- --- Roles of the cluster -----------------------------------------------------------------------------------------

-- The broker creates roles and is no superuser. Each group role below is one thing that can be granted; the broker may
-- pass it on (ADMIN) but cannot use it itself. The quarantine role owns what agents leave behind.
DO $$
DECLARE
    modern constant boolean := current_setting('server_version_num')::int >= 160000;
    bundle text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'countersign_broker') THEN
        CREATE ROLE countersign_broker LOGIN CREATEROLE CONNECTION LIMIT 20;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'countersign_orphans') THEN
        CREATE ROLE countersign_orphans NOLOGIN;
    END IF;
    FOREACH bundle IN ARRAY ARRAY[
        'countersign_orders_ro', 'countersign_customers_limited', 'countersign_schema_migrator'
    ] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = bundle) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', bundle);
        END IF;
        EXECUTE format(
            'GRANT %I TO countersign_broker WITH %s',
            bundle, CASE WHEN modern THEN 'ADMIN TRUE, INHERIT FALSE, SET FALSE' ELSE 'ADMIN OPTION' END
        );
    END LOOP;
    EXECUTE 'GRANT countersign_orphans TO countersign_broker'
        || CASE WHEN modern THEN ' WITH INHERIT TRUE, SET TRUE' ELSE '' END;
    IF modern THEN
        ALTER ROLE countersign_broker SET createrole_self_grant = 'set, inherit';
    END IF;
END
$$;

ALTER ROLE countersign_broker SET statement_timeout = '15s';
ALTER ROLE countersign_broker SET lock_timeout = '5s';
-- Lets the broker end sessions whose role is already gone.
GRANT pg_signal_backend TO countersign_broker;

-- --- Who can connect ----------------------------------------------------------------------------------------------

-- By default everybody may connect to every database and make temporary tables in it. A credential for the shop must
-- not open other doors: do the same REVOKE in every database of the cluster.
REVOKE CONNECT, TEMPORARY ON DATABASE shop FROM PUBLIC;
REVOKE CONNECT, TEMPORARY ON DATABASE postgres FROM PUBLIC;
REVOKE CONNECT, TEMPORARY ON DATABASE template1 FROM PUBLIC;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT CONNECT ON DATABASE shop
    TO countersign_broker, countersign_orders_ro, countersign_customers_limited, countersign_schema_migrator;

-- --- What each group role can do ----------------------------------------------------------------------------------

GRANT USAGE ON SCHEMA shop TO countersign_orders_ro, countersign_customers_limited;
GRANT SELECT ON shop.orders TO countersign_orders_ro;
GRANT SELECT (id, name, country) ON shop.customers TO countersign_customers_limited;
GRANT shop_owner TO countersign_schema_migrator;
-- What a migration leaves behind goes to the quarantine role, which must be able to own it.
GRANT CREATE ON SCHEMA shop TO countersign_orphans;

-- --- Which rows a credential sees ---------------------------------------------------------------------------------

-- The broker writes what was approved for a credential here, and nobody else does. A setting such as app.country would
-- not do: its user can change it.
CREATE SCHEMA IF NOT EXISTS countersign;
CREATE TABLE IF NOT EXISTS countersign.lease_scope (
    role_name text NOT NULL,
    key text NOT NULL,
    value text NOT NULL,
    PRIMARY KEY (role_name, key, value)
);
GRANT USAGE ON SCHEMA countersign TO countersign_broker, countersign_customers_limited;
GRANT SELECT, INSERT, DELETE ON countersign.lease_scope TO countersign_broker;

-- The table itself is guarded the same way: a session sees what was approved for the role it logged in with, and
-- nothing of others. `session_user` is that role whatever SET ROLE says.
GRANT SELECT ON countersign.lease_scope TO countersign_customers_limited;
ALTER TABLE countersign.lease_scope ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS own_rows ON countersign.lease_scope;
CREATE POLICY own_rows ON countersign.lease_scope FOR SELECT USING (role_name = session_user);
DROP POLICY IF EXISTS broker_rows ON countersign.lease_scope;
CREATE POLICY broker_rows ON countersign.lease_scope TO countersign_broker USING (true) WITH CHECK (true);

ALTER TABLE shop.customers ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS customers_as_approved ON shop.customers;
CREATE POLICY customers_as_approved ON shop.customers FOR SELECT TO countersign_customers_limited
    USING (country IN (
        SELECT value FROM countersign.lease_scope WHERE role_name = session_user AND key = 'country'
    ));

COMMIT;
