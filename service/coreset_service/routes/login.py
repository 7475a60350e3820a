"""Login for browsers: the key goes into a cookie that no script can read and no other site can send."""

from typing import Annotated
from urllib.parse import parse_qs

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from coreset_service.dependencies import Ctx
from coreset_service.html_pages import TEMPLATES, secured
from coreset_service.http.auth import COOKIE

router = APIRouter(include_in_schema=False)

_HTML = (TEMPLATES / "login.html").read_text(encoding="utf-8")
Next = Annotated[str, Query(alias="next", max_length=500)]


@router.get("/login", response_class=HTMLResponse)
async def login_page() -> Response:
    return _form(200, "")


@router.post("/login", response_class=HTMLResponse)
async def login(context: Ctx, request: Request, goal: Next = "/") -> Response:
    """Set the cookie if the form's `key` is valid, and redirect to `next`."""
    form = parse_qs((await request.body()).decode(errors="replace"))
    key = form.get("key", [""])[0].strip()
    if context.keyring.find(key) is None:
        return _form(401, "This key is not valid.")
    answer = RedirectResponse(goal if _is_local_path(goal) else "/", 303)
    secure = request.url.scheme == "https"
    answer.set_cookie(COOKIE, key, httponly=True, samesite="strict", secure=secure, path="/")
    return answer


@router.post("/logout")
async def logout() -> Response:
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE, path="/")
    return answer


def _is_local_path(goal: str) -> bool:
    return goal.startswith("/") and not goal.startswith(("//", "/\\"))


def _form(status: int, error: str) -> Response:
    return secured(HTMLResponse(_HTML.replace("@ERROR@", error), status))
