"""The description of a server in OpenAPI 3.1, from the tasks of its models."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from xmodular.prediction import Predictor
from xmodular.serving.request_rows import Limits, needs

_REFUSALS = {
    "400": "The body is not JSON in UTF-8.",
    "404": "There is no such model.",
    "408": "The body came too slowly.",
    "413": "The body, the number of rows, a text or a row's tokens exceed the limit.",
    "415": "Content-Type is not application/json.",
    "421": "The server is called by a name that is not its own.",
    "422": "A row does not suit the task, or its language is unknown.",
    "429": "Too many rows wait; Retry-After has the seconds to wait.",
    "500": "The model failed.",
    "503": "The server is shutting down.",
    "504": "There was no prediction in time.",
}
_JSON = "application/json"


def description(models: Mapping[str, Predictor], limits: Limits) -> dict[str, Any]:
    """The description of a server.

    Args:
        models: the models by name.
        limits: what a request may have.
    """
    schemas: dict[str, Any] = {
        "Error": _object({"error": _object({"status": {"type": "integer"}, "message": {"type": "string"}})}),
        "Model": {"type": "object", "properties": {"name": {"type": "string"}, "task": {"type": "string"}}},
    }
    paths: dict[str, Any] = {}
    for name, predictor in models.items():
        schemas[f"{name}.Row"] = _row(predictor, limits)
        schemas[f"{name}.Prediction"] = _prediction(predictor)
        schemas[f"{name}.Request"] = _request(name, predictor, limits)
        schemas[f"{name}.Answer"] = _object(
            {"model": {"const": name}, "predictions": {"type": "array", "items": _ref(f"{name}.Prediction")}}
        )
        paths[f"/models/{name}/predict"] = {
            "post": _posting(f"predict_{name}", f"Predictions of {name}", [name], models)
        }
    paths["/predict"] = {"post": _posting("predict", "Predictions of a model", list(models), models)}
    for path, said, answer in (
        ("/models", "The models, with task, labels and languages", {_JSON: {"schema": {"type": "object"}}}),
        ("/health", "Whether the server answers requests", {_JSON: {"schema": {"type": "object"}}}),
        ("/metrics", "Counts and times, in Prometheus' text format", {"text/plain": {"schema": {"type": "string"}}}),
        ("/openapi.json", "This description", {_JSON: {"schema": {"type": "object"}}}),
        ("/", "A page to try the models", {"text/html": {"schema": {"type": "string"}}}),
    ):
        answers: dict[str, Any] = {"200": {"description": said, "content": answer}}
        if path == "/health":
            answers["503"] = {"description": "The server is shutting down, or a model has failed."}
        paths[path] = {"get": {"summary": said, "responses": answers}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "xmodular",
            "version": version("xmodular"),
            "description": "Predictions of modular encoders.",
        },
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _posting(operation: str, said: str, names: list[str], models: Mapping[str, Predictor]) -> dict[str, Any]:
    requests, answers = ([_ref(f"{name}.{part}") for name in names] for part in ("Request", "Answer"))
    sample = {"rows": [{**models[names[0]].task.sample}], "model": names[0]}
    refusals = {
        status: {"description": said, "content": {_JSON: {"schema": _ref("Error")}}}
        for status, said in _REFUSALS.items()
        if status != "404" or len(names) == 1
    }
    refusals["429"]["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
    return {
        "operationId": operation,
        "summary": said,
        "requestBody": {"required": True, "content": {_JSON: {"schema": {"anyOf": requests}, "example": sample}}},
        "responses": {
            "200": {
                "description": "A prediction for each row, in their order",
                "content": {_JSON: {"schema": {"anyOf": answers}}},
            },
            **refusals,
        },
    }


def _request(name: str, predictor: Predictor, limits: Limits) -> dict[str, Any]:
    """A body: a text, a list, rows with settings, or a row with settings."""
    row = _ref(f"{name}.Row")
    text = [{"type": "string", "maxLength": limits.characters}] if "text" in predictor.task.fields else []
    rows = {"type": "array", "items": {"anyOf": [*text, row]}, "minItems": 1, "maxItems": limits.rows}
    settings: dict[str, Any] = {"model": {"const": name}}
    if predictor.task.probabilities is not None:
        settings["probabilities"] = {"type": "boolean", "default": False}
    whole = {
        "type": "object",
        "properties": {"rows": rows, "language": _language(predictor), **settings},
        "required": ["rows"],
        "additionalProperties": False,
    }
    return {"anyOf": [*text, rows, whole, {"allOf": [row, {"type": "object", "properties": settings}]}]}


def _row(predictor: Predictor, limits: Limits) -> dict[str, Any]:
    """A row with the task's fields; the columns that another name may have are left out, but allowed."""
    task = predictor.task
    text = {"type": "string", "minLength": 1, "maxLength": limits.characters}
    texts = {"type": "array", "items": text, "minItems": 1}
    fields = {
        predictor.usual.get(field, field): texts if field in ("words", "choices") else text
        for field in list(task.fields)[:-1]
    }
    return {
        "type": "object",
        "description": f"{needs(task).capitalize()}.",
        "properties": {**fields, "language": _language(predictor)},
        "example": dict(task.sample),
    }


def _language(predictor: Predictor) -> dict[str, Any]:
    said = "identified" if predictor.identifies else "the default, if there is one"
    return {
        "type": "string",
        "description": f"Code or name of the language; without it, {said}. The model's: "
        f"{', '.join(predictor.model.languages)}.",
    }


def _prediction(predictor: Predictor) -> dict[str, Any]:
    columns = {**predictor.task.columns(predictor.labels), **dict.fromkeys(predictor.fields, "")}
    properties = {name: _or_null(_kind(value)) for name, value in columns.items()}
    if "confidence" in properties:
        properties["confidence"] = _or_null({"type": "number"})
    required = [name for name in properties if name != "probabilities"]
    return {"type": "object", "properties": properties, "required": required}


def _kind(value: Any) -> dict[str, Any]:
    """The schema of values like this one."""
    if isinstance(value, Mapping):
        return {"type": "object", "properties": {str(name): _kind(each) for name, each in value.items()}}
    if isinstance(value, list):
        return {"type": "array", "items": _or_null(_kind(value[0])) if value else {}}
    names = {bool: "boolean", int: "integer", float: "number", str: "string"}
    return {"type": names[type(value)]}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema that null suits too, as where a model's outputs are no numbers."""
    return {**schema, "type": [schema["type"], "null"]} if "type" in schema else schema


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
