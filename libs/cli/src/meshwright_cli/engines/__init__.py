"""The embedded engines of one data folder: who owns it, and what runs on it."""
