# The MLflow tracking server. Build from the top of the repository:
#   docker build --file docker/mlflow.Dockerfile .
FROM python:3.11.15-slim-bookworm
RUN useradd --create-home --uid 50000 --gid 0 mlflow
COPY constraints/python-3.11.txt /opt/constraints.txt
RUN pip install --no-cache-dir --constraint /opt/constraints.txt boto3 mlflow psycopg2-binary
USER 50000
WORKDIR /home/mlflow
EXPOSE 5000
