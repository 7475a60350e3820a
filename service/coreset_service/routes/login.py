"""For people at a browser: their key, kept in a cookie that no script can read and no other site can send."""

from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from coreset_service.dependencies import Ctx
from coreset_service.http.auth import COOKIE
from coreset_service.routes.page import POLICY

router = APIRouter(include_in_schema=False)

_HTML = (Path(__file__).parents[1] / "templates" / "login.html").read_text(encoding="utf-8")
Next = Annotated[str, Query(alias="next", max_length=500)]


@router.get("/login", response_class=HTMLResponse)
async def login_page() -> Response:
    return _form(200, "")


@router.post("/login", response_class=HTMLResponse)
async def login(context: Ctx, request: Request, goal: Next = "/") -> Response:
    """Take `key` of a form. A valid one becomes the cookie; the browser goes on to `next`."""
    form = parse_qs((await request.body()).decode(errors="replace"))
    key = form.get("key", [""])[0].strip()
    if context.keyring.find(key) is None:
        return _form(401, "This key is not valid.")
    answer = RedirectResponse(goal if _own_path(goal) else "/", 303)
    secure = request.url.scheme == "https"
    answer.set_cookie(COOKIE, key, httponly=True, samesite="strict", secure=secure, path="/")
    return answer


@router.post("/logout")
async def logout() -> Response:
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE, path="/")
    return answer


def _own_path(goal: str) -> bool:
    return goal.startswith("/") and not goal.startswith(("//", "/\\"))


def _form(status: int, error: str) -> Response:
    answer = HTMLResponse(_HTML.replace("@ERROR@", error), status)
    answer.headers["Content-Security-Policy"] = POLICY
    answer.headers["Cache-Control"] = "no-store"
    return answer
