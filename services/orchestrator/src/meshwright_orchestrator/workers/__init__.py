"""Work by the queues: filling them from the stored tasks, taking from them, telling the load."""
