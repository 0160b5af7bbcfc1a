"""What a codec beside a profile may use: ``Sample`` for what was measured at one moment, ``Fault`` for a value that is
none, ``Refused`` for bytes that are not this device's.

    from gateway.codec import Fault, Refused, Sample

    def decode(data: bytes, fport: int | None) -> list[Sample]:
        if data[:1] != b"\\x01":
            raise Refused("bad_payload", "begins with something else")
        return [Sample({"level": data[1], "temp": Fault("sensor fault") if data[2] == 0xFF else data[2]})]
"""

from gateway.core.payload import Refused, Sample
from gateway.core.registers import Fault

__all__ = ["Fault", "Refused", "Sample"]
