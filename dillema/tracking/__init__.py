"""Copies the content of run folders to MLflow.

An error here never ends a run, and an unreachable server never delays one. The data for MLflow stays in the
folder `unsent` of the run folder until MLflow has all of it. So nothing is lost if the server is unreachable
or the process is killed: `job=sync` sends it later.

No other package imports mlflow. This file imports nothing, because the process that talks to MLflow has to
start quickly.
"""
