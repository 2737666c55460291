# Two images: `llmscope` runs every command, all in one process when none is given; `llmscope_web` is nginx with the
# built page, for compose. Behind a mirror, pass its settings as secrets:
#   docker build --secret id=pip,src="$HOME/.config/pip/pip.conf" --secret id=npm,src="$HOME/.npmrc" .

FROM node:20-slim AS page
WORKDIR /build/web
COPY web/package.json web/package-lock.json web/.npmrc ./
RUN --mount=type=secret,id=npm,target=/root/.npmrc --mount=type=cache,target=/root/.npm \
    npm ci --no-audit --no-fund --loglevel=error
COPY docs/openapi.json ../docs/
COPY web ./
RUN mkdir -p ../src/llmscope && npm run --silent build

FROM python:3.11-slim AS package
WORKDIR /build
COPY pyproject.toml hatch_build.py constraints.txt README.md LICENSE ./
COPY src src
COPY --from=page /build/src/llmscope/dashboard src/llmscope/dashboard
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=cache,target=/root/.cache/pip \
    python -m venv --without-pip /opt/llmscope \
    && LLMSCOPE_SKIP_WEB=1 pip --python /opt/llmscope/bin/python install -c constraints.txt .

FROM nginx:1.27-alpine AS llmscope_web
LABEL org.opencontainers.image.title="LLMscope, the page" \
      org.opencontainers.image.description="nginx with LLMscope's page; hands the API's paths to llmscope_api" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY deploy/nginx/nginx.conf deploy/nginx/page-headers.conf /etc/nginx/
COPY --from=page /build/src/llmscope/dashboard /usr/share/nginx/html
USER 101:101
EXPOSE 8080
STOPSIGNAL SIGQUIT
HEALTHCHECK --interval=3s --timeout=3s --start-period=30s \
    CMD wget -q -O /dev/null http://127.0.0.1:8080/nginx-health
ENTRYPOINT ["nginx", "-g", "daemon off;"]

FROM python:3.11-slim AS llmscope
LABEL org.opencontainers.image.title="LLMscope" \
      org.opencontainers.image.description="Statistical process control for language-model services" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin llmscope \
    && install -d -o llmscope -g llmscope /data
COPY --from=package /opt/llmscope /opt/llmscope
ENV PATH=/opt/llmscope/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    LLMSCOPE_HOST=0.0.0.0 \
    LLMSCOPE_DB=/data/llmscope.db \
    LLMSCOPE_SPOOL=/data/spool.db
WORKDIR /data
VOLUME /data
USER 10001:10001
EXPOSE 8081
HEALTHCHECK --interval=3s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ.get('LLMSCOPE_PORT', '8081') + '/readyz', timeout=4)"]
ENTRYPOINT ["llmscope"]
CMD ["up"]
