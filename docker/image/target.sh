# Sourced by the stages that run on the builder's architecture and make what runs on the target's (TARGETARCH).
case $TARGETARCH in
amd64) machine=x86_64 ;;
arm64) machine=aarch64 ;;
*) echo "expected amd64 or arm64, got '$TARGETARCH'" >&2; exit 2 ;;
esac
prefix=$machine-linux-gnu
