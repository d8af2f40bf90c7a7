-- A withdrawn turn has left the conversation: its row stays, so that nothing of it is stored late.
ALTER TABLE turn_commits ADD COLUMN withdrawn boolean NOT NULL DEFAULT false;
