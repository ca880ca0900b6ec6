"""The claim by the textbook: the same view, with simplejwt's check, DRF's negotiation and a Celery message a claim."""

from django.urls import path
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import JSONParser
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework_simplejwt.authentication import JWTAuthentication

from config.urls import urlpatterns as ours
from coupons import services
from coupons.api.serializers import claim_as_json
from coupons.api.views import ClaimsView
from notifications.api.callers import user_id_of
from tests.benchmarks.textbook import issue_one


class TextbookClaimsView(ClaimsView):
    authentication_classes = [JWTAuthentication]
    content_negotiation_class = DefaultContentNegotiation
    renderer_classes = [JSONRenderer]
    parser_classes = [JSONParser]

    def post(self, request: Request, event_id: int) -> Response:
        user_id = user_id_of(request)
        claim = services.claim(event_id=event_id, user_id=user_id).claim
        issue_one.delay(event_id, user_id, claim.id.sequence)
        return Response(claim_as_json(claim), status=202, headers={"Location": f"{request.path}/{claim.id}"})


urlpatterns = [path("api/v1/events/<int:event_id>/claims", TextbookClaimsView.as_view()), *ours]
