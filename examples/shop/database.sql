-- The shop's data, and what its DBA grants to the roles that leases are given.
--
--     createdb shop
--     countersign target init-sql shop examples/shop | psql -v ON_ERROR_STOP=1 -d shop
--     psql -d shop -v ON_ERROR_STOP=1 -f examples/shop/database.sql
--     psql -d shop -c '\password countersign_broker'     and the same password into the file broker-password
--
-- `init-sql` makes the broker's role, the functions it may call and the roles the catalog names. This is the rest.
-- Plain SQL for PostgreSQL 15 and later, run as a superuser, connected to the database `shop`. Running it again is harmless.

BEGIN;

-- --- The shop -----------------------------------------------------------------------------------------------------

-- Migrations act as shop_owner, so what they make belongs to it.
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

-- --- Who can connect ----------------------------------------------------------------------------------------------

-- By default everybody may connect to every database and make temporary tables in it. A credential for the shop must
-- not open other doors: do the same REVOKE in every database of the cluster. For shop itself init-sql did it.
REVOKE CONNECT, TEMPORARY ON DATABASE postgres FROM PUBLIC;
REVOKE CONNECT, TEMPORARY ON DATABASE template1 FROM PUBLIC;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;

-- --- What each group role can do ----------------------------------------------------------------------------------

GRANT USAGE ON SCHEMA shop TO countersign_orders_ro, countersign_customers_limited;
GRANT SELECT ON shop.orders TO countersign_orders_ro;
GRANT SELECT (id, name, country) ON shop.customers TO countersign_customers_limited;

-- --- Which rows a credential sees ---------------------------------------------------------------------------------

-- What was approved for a credential stands in countersign.lease_scope, where only the broker's functions write, and each
-- session sees its own. A setting such as app.country would not do: its user can change it. `session_user` is the role
-- that logged in, whatever SET ROLE says.
ALTER TABLE shop.customers ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS customers_as_approved ON shop.customers;
CREATE POLICY customers_as_approved ON shop.customers FOR SELECT TO countersign_customers_limited
    USING (country IN (
        SELECT value FROM countersign.lease_scope WHERE role_name = session_user AND key = 'country'
    ));

COMMIT;
