"""The test kit: what a program sends as spans, with expectations that read like sentences, and the conformance kits.

    from lighttrace.testing import capture

    def test_checkout_is_traced():
        with capture(service="checkout", team="payments") as spans:
            shop.checkout("A-1")
            spans.expect(name="reserve stock", team="fraud", attributes={"sku": "A-1"})

With pytest the fixture `spans` is the same, ready made. The kits (`lighttrace.testing.kits`) are classes to inherit from:
a subclass says how one library spells a call, and gets every test that an integration has to pass.
"""

from lighttrace.testing.capture import Capture, capture
from lighttrace.testing.spans import CapturedSpan

__all__ = ["Capture", "CapturedSpan", "capture"]
