from collections.abc import Mapping

class ConfigResourceType:
    TOPIC: ConfigResourceType
    BROKER: ConfigResourceType

class ConfigResource:
    def __init__(
        self,
        resource_type: ConfigResourceType,
        name: str,
        configs: Mapping[str, str] | None = ...,
    ) -> None: ...
