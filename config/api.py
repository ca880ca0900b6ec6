"""What all views of the REST API share: who asks, in which form, and how pages are cut."""

from rest_framework import pagination


class PageNumberPagination(pagination.PageNumberPagination):
    """Pages of 50, up to 200 by `page_size`."""

    page_size_query_param = "page_size"
    max_page_size = 200
