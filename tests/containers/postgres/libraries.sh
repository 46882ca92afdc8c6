# What the binaries are linked with, and the time zones they were built to read from the system.
set -eu
apt-get update
apt-get install -y --no-install-recommends \
    libgssapi-krb5-2 liblz4-1 liblzma5 libreadline8 libssl3 libxslt1.1 libzstd1 tzdata zlib1g
rm -rf /var/lib/apt/lists/*
