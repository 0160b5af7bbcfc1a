"""The words of the log book for people, in Chinese and in English: states, what a step was, what somebody did."""

from __future__ import annotations

from typing import Literal

Language = Literal["zh", "en"]

STATES = {
    "UNACK": ("未确认", "new"),
    "ACKED": ("已确认", "acknowledged"),
    "RTNUN": ("恢复未确认", "returned, new"),
    "SHLVD": ("已搁置", "shelved"),
    "DSUPR": ("被抑制", "suppressed"),
    "OOSRV": ("停用检修", "out of service"),
    "NORM": ("正常", "normal"),
}

# The rows of the table in docs/alarms.md.
CAUSES = {
    "T3": ("发生", "raised"),
    "T6": ("恢复", "cleared"),
    "T7": ("再次发生", "raised again"),
    "T8": ("级别上升", "level up"),
    "T9": ("级别下降", "level down"),
    "T10": ("确认", "acknowledged"),
    "T11": ("重复提醒", "reminded"),
    "T12": ("撤销确认", "acknowledgement taken back"),
    "T13": ("复位", "reset"),
    "T15": ("搁置", "shelved"),
    "T16": ("搁置一次", "shelved once"),
    "T17": ("取消搁置", "unshelved"),
    "T18": ("搁置到期", "shelf over"),
    "T19": ("搁置结束", "shelf over"),
    "T20": ("被上级报警抑制", "suppressed by its cause"),
    "T21": ("抑制解除", "no longer suppressed"),
    "T22": ("停用检修", "out of service"),
    "T23": ("恢复服务", "in service"),
    "T24": ("规则变更", "rule changed"),
    "T25": ("核实", "confirmed"),
    "T26": ("事件", "event"),
    "T27": ("强制结束", "cleared by force"),
    "T28": ("数据质量变化", "quality of its data"),
    "T29": ("频繁波动", "chattering"),
    "T30": ("长时间未处理", "stands for a day"),
    "T31": ("消音", "silenced"),
    "comment": ("备注", "comment"),
    "assign": ("指派", "assigned"),
    "W1": ("派遣", "dispatched"),
    "W2": ("接单", "accepted"),
    "W3": ("拒单", "refused"),
    "W4": ("到场", "on site"),
    "W5": ("处置完成", "done"),
    "W6": ("数据核实结案", "closed by its readings"),
    "W7": ("核实未通过，返工", "not right, sent again"),
    "W8": ("结案后复发，重新派遣", "came back, sent again"),
    "W9": ("结案", "closed"),
    "W10": ("人工核查", "checked by a person"),
}

ACTIONS = {
    "acknowledge": ("确认", "acknowledge"),
    "unacknowledge": ("撤销确认", "take an acknowledgement back"),
    "shelve": ("搁置", "shelve"),
    "unshelve": ("取消搁置", "unshelve"),
    "out-of-service": ("停用检修", "out of service"),
    "in-service": ("恢复服务", "in service"),
    "reset": ("复位", "reset"),
    "silence": ("消音", "silence"),
    "confirm": ("核实销号", "confirm"),
    "force-clear": ("强制结束", "clear by force"),
    "comment": ("备注", "comment"),
    "assign": ("指派", "assign"),
    "dispatch": ("派遣", "dispatch"),
    "accept": ("接单", "accept work"),
    "refuse": ("拒单", "refuse work"),
    "on-site": ("到场", "arrive"),
    "done": ("处置完成", "say that it is done"),
    "verify": ("核查通过", "verify work"),
    "return": ("核查退回", "send work back"),
    "close": ("结案", "close work"),
    "inbound": ("平台消息", "message of a platform"),
    "photo": ("上传照片", "add a photo"),
    "maintenance": ("停用检修计划", "plan maintenance"),
    "end-maintenance": ("结束检修", "end maintenance"),
    "note": ("便签", "note"),
    "save-view": ("保存视图", "save a view"),
    "delete-view": ("删除视图", "delete a view"),
    "hand-over": ("交班", "hand over a shift"),
    "take-over": ("接班", "take over a shift"),
    "replay": ("重放原始帧", "offer a frame again"),
    "reload": ("重新加载配置", "read the configuration again"),
    "claim": ("登记设备", "claim a device"),
    "write-point": ("远程设置", "set a point"),
    "issue-credentials": ("签发设备口令", "issue a device's password"),
    "revoke-credentials": ("吊销设备口令", "revoke a device's password"),
    "sign-in": ("登录", "sign in"),
    "change-password": ("修改口令", "change one's password"),
    "reset-password": ("重置口令", "reset a password"),
    "create-user": ("新建用户", "make a user"),
    "change-user": ("修改用户", "change a user"),
    "change-rule": ("修改规则", "change a rule"),
    "remove-rule": ("删除规则", "remove a rule"),
    "create-token": ("新建令牌", "make a token"),
    "revoke-token": ("吊销令牌", "revoke a token"),
}

OUTCOMES = {
    "done": ("完成", "done"),
    "asked": ("已请求", "asked"),
    "failed": ("失败", "failed"),
    "refused": ("被拒绝", "refused"),
    "forbidden": ("权限不足", "forbidden"),
    "invalid": ("有误", "with mistakes"),
    "stale_rev": ("报警已变化", "the alarm had changed"),
    "not_allowed": ("当前状态不允许", "not allowed then"),
    "not_found": ("未找到", "not found"),
    "unavailable": ("暂时不可用", "not available"),
    "stored": ("已存储", "stored"),
    "duplicate": ("重复", "a duplicate"),
    "offered": ("已提交", "offered"),
}


def word(table: dict[str, tuple[str, str]], name: str | None, language: Language) -> str:
    """``name`` for people; as it is when there is no word for it, "" for None."""
    if name is None:
        return ""
    zh, en = table.get(name, (name, name))
    return zh if language == "zh" else en
