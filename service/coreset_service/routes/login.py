"""Log in and out in a browser: a session's token in a cookie that scripts cannot read and other sites cannot send."""

from typing import Annotated
from urllib.parse import parse_qs

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.concurrency import run_in_threadpool

from coreset_service.dependencies import Ctx
from coreset_service.html_pages import TEMPLATES, secured
from coreset_service.http.auth import address_of
from coreset_service.http.sessions import COOKIE, SESSION_SECONDS

router = APIRouter(include_in_schema=False)

_HTML = (TEMPLATES / "login.html").read_text(encoding="utf-8")
Next = Annotated[str, Query(alias="next", max_length=500)]


@router.get("/login", response_class=HTMLResponse)
async def login_page() -> Response:
    return _form(200, "")


@router.post("/login", response_class=HTMLResponse)
async def login(context: Ctx, request: Request, goal: Next = "/") -> Response:
    """Take `key` of a form. A valid one starts a session; the browser goes on to `next`.

    Only wrong keys count against the address, so the guesses of others cannot keep a valid key out.
    """
    form = parse_qs((await request.body()).decode(errors="replace"), max_num_fields=10)
    key = context.keyring.find(form.get("key", [""])[0].strip())
    if key is None:
        context.rates.count_request("failure", address_of(request))
        return _form(401, "This key is not valid.")
    token = await run_in_threadpool(context.sessions.start, key)
    answer = RedirectResponse(goal if _is_local_path(goal) else "/", 303)
    secure = request.url.scheme == "https"
    answer.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=secure, path="/", max_age=SESSION_SECONDS)
    return answer


@router.post("/logout")
async def logout(context: Ctx, request: Request) -> Response:
    """End the session, and have the browser forget what it has cached of it."""
    if token := request.cookies.get(COOKIE):
        await run_in_threadpool(context.sessions.end, token)
    answer = RedirectResponse("/login", 303, headers={"Clear-Site-Data": '"cache"'})
    answer.delete_cookie(COOKIE, path="/")
    return answer


def _is_local_path(goal: str) -> bool:
    return goal.startswith("/") and not goal.startswith(("//", "/\\"))


def _form(status: int, error: str) -> Response:
    return secured(HTMLResponse(_HTML.replace("@ERROR@", error), status))
