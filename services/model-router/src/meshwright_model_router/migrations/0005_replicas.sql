-- Processes that count budgets. A day that Redis lost is given out again when each that lives has
-- told what its calls hold; parts are given out without Redis when none that lives uses it.
-- A table without tenants.
CREATE TABLE model_router.budget_replicas (
    replica uuid NOT NULL PRIMARY KEY,
    is_away boolean NOT NULL,
    told_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
GRANT SELECT, INSERT, UPDATE, DELETE ON model_router.budget_replicas TO meshwright_model_router;
