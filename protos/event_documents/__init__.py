"""Makes docs/events from the protos and the topics: schemas, the AsyncAPI document, the tables."""
