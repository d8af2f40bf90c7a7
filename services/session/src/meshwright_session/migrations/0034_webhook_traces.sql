-- The trace of the event that a delivery tells of; empty: none. Attempts go on in it.
ALTER TABLE webhook_deliveries ADD COLUMN traceparent text NOT NULL DEFAULT '';
