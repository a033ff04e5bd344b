# The commands of CONTRIBUTING.md; `just --list` shows them.

# Unit, integration and doc tests, on the embedded cluster
test *arguments:
    cargo test {{arguments}}

# Formatting and lints
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# Documentation as docs.rs builds it, and the public API against its listing; `just docs --accept` updates it
docs *arguments:
    .ci/docs {{arguments}}

# Each fuzz target for FUZZ_SECONDS (30)
fuzz *targets:
    .ci/fuzz {{targets}}

# Ten minutes of load on a real kube-apiserver
soak:
    SOAK_SECONDS=600 KUBEBUILDER_ASSETS="$(tests/conformance/kube-apiserver-from-debian)" cargo test --release --test soak

# Times from a thousand deletions to the first rejection, and ten minutes of steady state, on a real kube-apiserver
revocation:
    REVOCATIONS=1000 REVOCATIONS_BY_TTL=100 STEADY_SECONDS=600 KUBEBUILDER_ASSETS="$(tests/conformance/kube-apiserver-from-debian)" cargo test --test revocation

# Everything that CI runs
ci:
    .ci/run
