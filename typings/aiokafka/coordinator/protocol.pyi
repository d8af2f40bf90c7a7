class ConsumerProtocolMemberMetadata:
    subscription: list[str]
    @classmethod
    def decode(cls, data: bytes) -> ConsumerProtocolMemberMetadata: ...
