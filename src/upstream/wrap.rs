//! What every stream around another says of itself: what the one inside says.

/// Has a type with a field `inner`, a Pingora stream, answer who it is, over which TLS, since when and from where.
macro_rules! identify_by_inner {
    ($outer:ty) => {
        impl ::pingora_core::protocols::UniqueID for $outer {
            fn id(&self) -> ::pingora_core::protocols::UniqueIDType {
                self.inner.id()
            }
        }

        impl ::pingora_core::protocols::Ssl for $outer {
            fn get_ssl(&self) -> Option<&::pingora_core::protocols::tls::TlsRef> {
                self.inner.get_ssl()
            }

            fn get_ssl_digest(&self) -> Option<::std::sync::Arc<::pingora_core::protocols::tls::SslDigest>> {
                self.inner.get_ssl_digest()
            }

            fn selected_alpn_proto(&self) -> Option<::pingora_core::protocols::ALPN> {
                self.inner.selected_alpn_proto()
            }
        }

        impl ::pingora_core::protocols::GetTimingDigest for $outer {
            fn get_timing_digest(&self) -> Vec<Option<::pingora_core::protocols::TimingDigest>> {
                self.inner.get_timing_digest()
            }

            fn get_read_pending_time(&self) -> ::std::time::Duration {
                self.inner.get_read_pending_time()
            }

            fn get_write_pending_time(&self) -> ::std::time::Duration {
                self.inner.get_write_pending_time()
            }
        }

        impl ::pingora_core::protocols::GetProxyDigest for $outer {
            fn get_proxy_digest(
                &self,
            ) -> Option<::std::sync::Arc<::pingora_core::protocols::raw_connect::ProxyDigest>> {
                self.inner.get_proxy_digest()
            }

            fn set_proxy_digest(&mut self, digest: ::pingora_core::protocols::raw_connect::ProxyDigest) {
                self.inner.set_proxy_digest(digest);
            }
        }

        impl ::pingora_core::protocols::GetSocketDigest for $outer {
            fn get_socket_digest(&self) -> Option<::std::sync::Arc<::pingora_core::protocols::SocketDigest>> {
                self.inner.get_socket_digest()
            }

            fn set_socket_digest(&mut self, digest: ::pingora_core::protocols::SocketDigest) {
                self.inner.set_socket_digest(digest);
            }
        }
    };
}

pub(crate) use identify_by_inner;
