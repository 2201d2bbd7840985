//! The partial shapes of Kubernetes objects as they are written.
