class StickyPartitionAssignor:
    name: str
