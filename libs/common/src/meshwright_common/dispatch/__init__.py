"""Work for whoever is free: queues with lanes, retries and dead letters; status for all to hear."""
