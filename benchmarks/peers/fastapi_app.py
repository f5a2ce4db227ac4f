"""FastAPI as one writes it by hand: a pydantic body in, a typed answer out. Started by uvicorn as `fastapi_app:app`."""

import numpy as np
from fastapi import FastAPI
from graph import Graph
from pydantic import BaseModel


class Body(BaseModel):
    """What is asked."""

    records: list[list[float]]
    samples: int = 16


class Scores(BaseModel):
    """What is answered: columns, a number or the latent means for each record."""

    log_reconstruction_probability: list[float]
    elbo: list[float]
    iwae: list[float]
    expected_log_likelihood: list[float]
    latent_mean: list[list[float]]


app = FastAPI()
graph = Graph()


@app.post("/score")
async def score(body: Body) -> Scores:
    """Score records."""
    return Scores(**{name: values.tolist() for name, values in graph.run(np.array(body.records)).items()})
