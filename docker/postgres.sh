#!/usr/bin/env bash
# Make a user and a database for each of Airflow, Celery's results and MLflow; run once, when the volume is new.
set -euo pipefail
secrets=${SECRETS:-/run/secrets}

for name in airflow celery mlflow; do
    psql --no-psqlrc --set=ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
        --set=name="$name" --set=password="$(<"$secrets/${name}_database_password")" <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE CONNECT ON DATABASE :"name" FROM PUBLIC;
SQL
done
