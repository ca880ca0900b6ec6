"""What the API tells of notifications, and what it is told of how to deliver them."""

from base64 import urlsafe_b64decode
from binascii import Error as BadBase64
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from rest_framework import serializers

from notifications import outbound
from notifications.models import Notification, Preferences

AUTH_BYTES = 16
BASE64URL = r"^[A-Za-z0-9_-]+=*$"


class NotificationSerializer(serializers.ModelSerializer[Notification]):
    """Something the caller is told."""

    data = serializers.DictField(  # type: ignore[assignment] # a field's name is not the serializer's attribute
        help_text="What it is about; the fields hang on the kind."
    )

    class Meta:
        model = Notification
        fields = ["id", "kind", "data", "created_at", "read_at"]
        read_only_fields = fields


class TrueOrFalse(serializers.BooleanField):
    """JSON's own, and nothing that could be meant by 0 or "yes"."""

    def to_internal_value(self, data: Any) -> bool:
        """The value."""
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class WaysSerializer(serializers.Serializer[Any]):
    """Whether the caller is told of a kind by each way that can be chosen."""

    email = TrueOrFalse()
    push = TrueOrFalse()


class KindsSerializer(serializers.Serializer[Any]):
    """The ways, by what happened."""

    coupon_issued = WaysSerializer()
    claim_rejected = WaysSerializer()
    claim_held = WaysSerializer()
    admitted = WaysSerializer()
    sale_opens_soon = WaysSerializer()


class PreferencesSerializer(serializers.Serializer[Any]):
    """How the caller wants to be told. Over WebSocket and in the list everybody is told of everything."""

    language = serializers.ChoiceField(
        choices=Preferences.Language.choices, help_text="What e-mails and pushes are written in."
    )
    kinds = KindsSerializer()


class PushKeySerializer(serializers.Serializer[Any]):
    """What a browser needs to subscribe."""

    public_key = serializers.CharField(help_text="The `applicationServerKey`, in base64url.")


class EndpointSerializer(serializers.Serializer[Any]):
    """A browser's subscription, by its address."""

    endpoint = serializers.URLField(max_length=1000, help_text="As the browser's `subscription.endpoint`.")

    def validate_endpoint(self, endpoint: str) -> str:
        """Only what we would send to."""
        try:
            outbound.check(endpoint)
        except outbound.NotAllowed as refusal:
            raise serializers.ValidationError(str(refusal)) from refusal
        return endpoint


class PushKeysSerializer(serializers.Serializer[Any]):
    """The keys that messages for a browser are encrypted with, in base64url."""

    p256dh = serializers.RegexField(BASE64URL, max_length=100)
    auth = serializers.RegexField(BASE64URL, max_length=40)

    def validate_p256dh(self, text: str) -> str:
        """A point of the curve, or nothing could be encrypted for it."""
        try:
            ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), _bytes(text))
        except ValueError as error:
            raise serializers.ValidationError("This is no public key of the curve P-256.") from error
        return text

    def validate_auth(self, text: str) -> str:
        """16 bytes."""
        try:
            right = len(_bytes(text)) == AUTH_BYTES
        except BadBase64:
            right = False
        if not right:
            raise serializers.ValidationError("This must be 16 bytes in base64url.")
        return text


class SubscriptionSerializer(EndpointSerializer):
    """A browser's subscription, as its `subscription.toJSON()` tells it."""

    keys = PushKeysSerializer()


def _bytes(text: str) -> bytes:
    return urlsafe_b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4))
