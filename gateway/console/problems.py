"""Errors as RFC 9457 problem documents, with a title in both languages and a code that programs can compare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from gateway.errors import CommandRefused, Unavailable

log = structlog.get_logger("console")

MEDIA_TYPE = "application/problem+json"

TITLES: dict[str, tuple[int, str, str]] = {
    "bad_request": (400, "请求有误", "The request is not right"),
    "bad_cursor": (400, "分页游标无效", "This is not a cursor of this list"),
    "unauthenticated": (401, "需要登录或令牌", "Sign in, or send a token"),
    "bad_sign_in": (401, "用户名、密码或令牌不正确", "Name, password or token is not right"),
    "forbidden": (403, "权限不足", "Your role does not allow this"),
    "bad_signature": (403, "签名无效或已过期", "The signature is not good, or too old"),
    "narrowed": (403, "此项只对全市范围的账号开放", "This is only for people who see the whole city"),
    "must_change": (403, "请先修改密码", "Change your password first"),
    "cross_site": (403, "拒绝跨站请求", "Refused: the request came from another site"),
    "not_found": (404, "未找到", "There is no such thing"),
    "method_not_allowed": (405, "方法不允许", "This path does not know this method"),
    "writes_off": (403, "未启用远程下发", "This gateway may not write to devices"),
    "device_refused": (409, "设备拒绝执行", "The device refused it"),
    "stale_rev": (409, "内容已被他人更改，请刷新后重试", "It has changed since you looked; look again"),
    "not_allowed": (409, "当前状态不允许此操作", "This is not possible as things stand"),
    "exists": (409, "已存在", "There is already one of that name"),
    "own_account": (409, "不能更改自己的角色、范围或停用自己", "Nobody does this to their own account"),
    "signs_in_elsewhere": (409, "该账号没有本地密码", "This account has no password here"),
    "last_admin": (409, "必须保留至少一名管理员", "Somebody must be left who may change users and tokens"),
    "too_large": (413, "请求内容过大", "The request is too large"),
    "weak_password": (
        422,
        "密码须为 10 至 128 个字符，不能是用户名，也不能过于常见",
        "A password has 10 to 128 characters, is not the name, and is none of the most common",
    ),
    "wrong_password": (403, "原密码不正确", "This is not your present password"),
    "too_many": (429, "尝试次数过多，请稍后再试", "Too many tries; wait a little"),
    "rule_mistakes": (422, "规则有误，未作任何更改", "The rule has mistakes; nothing was changed"),
    "invalid": (422, "参数无效", "Some values are not valid"),
    "failed": (500, "内部错误", "Something failed inside; it has been logged"),
    "unavailable": (503, "暂时不可用，请稍后重试", "Not available now; try again soon"),
}
_BY_STATUS = {400: "bad_request", 401: "unauthenticated", 403: "forbidden", 404: "not_found", 405: "method_not_allowed"}
_REFUSALS = frozenset(
    """stale_rev not_found forbidden not_allowed writes_off invalid device_refused
    exists weak_password last_admin signs_in_elsewhere""".split()  # noqa: SIM905
)
_BY_STATUS |= {413: "too_large", 422: "invalid", 503: "unavailable"}


class Problem(HTTPException):
    """Raise in a route to answer with the problem ``code`` of ``TITLES``; ``more`` are extension members."""

    def __init__(
        self, code: str, why: str | None = None, headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(TITLES[code][0], why, headers)
        self.code = code
        self.why = why
        self.more = more


def problem_response(
    code: str, detail: str | None = None, headers: Mapping[str, str] | None = None, **more: Any
) -> JSONResponse:
    """The document of a problem; ``more`` are extension members."""
    status, zh, en = TITLES[code]
    document: dict[str, Any] = {"type": f"urn:citywatch:problem:{code}", "title": en, "titles": {"zh": zh, "en": en}}
    document |= {"status": status, "code": code, **({"detail": detail} if detail else {}), **more}
    extra = dict(headers or {})
    if status == 401:
        extra["WWW-Authenticate"] = 'Bearer realm="citywatch"'
    if status == 503:
        extra.setdefault("Retry-After", "5")
    return JSONResponse(document, status, extra, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Every error of ``app`` becomes a problem document; an unforeseen one says nothing about the inside."""

    @app.exception_handler(Problem)
    async def ours(request: Request, error: Problem) -> JSONResponse:
        return problem_response(error.code, error.why, error.headers, **error.more)

    @app.exception_handler(CommandRefused)
    async def refused(request: Request, error: CommandRefused) -> JSONResponse:
        code = error.code if error.code in _REFUSALS else "not_allowed"
        return problem_response(code, str(error))

    @app.exception_handler(Unavailable)
    async def unavailable(request: Request, error: Unavailable) -> JSONResponse:
        return problem_response("unavailable", str(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        wrong = [
            {"where": ".".join(str(part) for part in item["loc"]), "message": item["msg"].removeprefix("Value error, ")}
            for item in error.errors()
        ]
        return problem_response("invalid", "; ".join(f"{w['where']}: {w['message']}" for w in wrong), errors=wrong)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        detail = error.detail if isinstance(error.detail, str) else None
        return problem_response(_BY_STATUS.get(error.status_code, "bad_request"), detail, error.headers)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        log.error("a request failed", path=request.url.path, error=f"{type(error).__name__}: {error}"[:300])
        return problem_response("failed")
