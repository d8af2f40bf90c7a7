-- Who deleted a document: its receipt says so when it is gone.
ALTER TABLE documents ADD COLUMN deleted_by text NOT NULL DEFAULT '';
