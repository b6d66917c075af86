-- name: connections_allowed
-- How many connections the current role may have to the current database; some are kept for superusers, and
-- since PostgreSQL 16 some for members of a role.
SELECT least(
    current_setting('max_connections')::int
        - CASE WHEN rolsuper THEN 0 ELSE current_setting('superuser_reserved_connections')::int END
        - CASE
            WHEN rolsuper OR pg_has_role(rolname, 'pg_use_reserved_connections', 'usage') THEN 0
            ELSE coalesce(current_setting('reserved_connections', true), '0')::int
          END,
    CASE WHEN rolconnlimit < 0 THEN NULL ELSE rolconnlimit END,
    CASE WHEN datconnlimit < 0 THEN NULL ELSE datconnlimit END
)
FROM pg_roles, pg_database
WHERE rolname = current_user AND datname = current_database();

-- name: ping
SELECT 1;
