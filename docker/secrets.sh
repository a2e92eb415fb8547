#!/usr/bin/env bash
# Make the secrets of docker/compose.yaml, one file each; a file that is there stays as it is.
#   docker/secrets.sh [DIRECTORY]      by default docker/secrets, which git ignores
set -euo pipefail
umask 077
directory=${1:-$(dirname "$0")/secrets}
# Containers read the files as users of their own, so the files are readable and the directory is what protects them.
mkdir -p "$directory"
chmod 700 "$directory"
cd "$directory"

random() { od -An -v -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }

# keep NAME: write standard input there, all of it or nothing, unless the file exists.
keep() {
    if [ -e "$1" ]; then
        cat >/dev/null
        return
    fi
    cat >".$1.new"
    chmod 444 ".$1.new"
    mv ".$1.new" "$1"
    echo "made $directory/$1"
}

for name in postgres_password airflow_database_password celery_database_password mlflow_database_password \
    redis_password admin_password s3_admin_key s3_airflow_key s3_mlflow_key; do
    random 24 | keep "$name"
done
random 64 | keep api_secret_key
random 64 | keep jwt_secret
head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '\n' | keep fernet_key

# What follows is put together from the above; edit these files to use servers of your own. No line ends where Airflow
# reads: it would take the newline for a part of the name.
printf %s "postgresql+psycopg2://airflow:$(<airflow_database_password)@postgres:5432/airflow" | keep airflow_database_url
printf %s "db+postgresql+psycopg2://celery:$(<celery_database_password)@postgres:5432/celery" | keep celery_result_backend
printf %s "redis://:$(<redis_password)@redis:6379/0" | keep celery_broker_url
printf %s "*:*:mlflow:mlflow:$(<mlflow_database_password)" | keep mlflow_pgpass
printf %s "requirepass $(<redis_password)" | keep redis.conf

for name in admin airflow mlflow; do
    keep "s3_${name}_credentials" <<END
[default]
aws_access_key_id = $name
aws_secret_access_key = $(<"s3_${name}_key")
END
done

keep connections.json <<END
{
  "artifacts": {
    "conn_type": "aws",
    "login": "airflow",
    "password": "$(<s3_airflow_key)",
    "extra": {"endpoint_url": "http://s3:8333", "region_name": "us-east-1"}
  },
  "mlflow": {"conn_type": "mlflow", "host": "http://mlflow:5000"}
}
END

identity() {
    printf '{"name": "%s", "credentials": [{"accessKey": "%s", "secretKey": "%s"}], "actions": [%s]}' \
        "$1" "$1" "$(<"s3_$1_key")" "$2"
}
on() { printf '"Read:%s", "List:%s", "Tagging:%s", "Write:%s"' "$1" "$1" "$1" "$1"; }

keep s3_identities.json <<END
{
  "identities": [
    $(identity admin '"Admin"'),
    $(identity airflow "$(on artifacts), $(on logs)"),
    $(identity mlflow "$(on artifacts), $(on mlflow)")
  ]
}
END
