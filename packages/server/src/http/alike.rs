//! Requests of ours that come by the way of one of ruma's.

/// Gives a request type the method, the paths and the authentication of another: `alike!(Ours => Theirs)`, or
/// `alike!(Ours<R> => R, for R: Metadata)`. How it is read is its own matter.
macro_rules! alike {
    ($ours:ty => $theirs:ty $(, for $($parameters:tt)+)?) => {
        impl$(<$($parameters)+>)? ::ruma::api::Metadata for $ours {
            const METHOD: ::http::Method = <$theirs as ::ruma::api::Metadata>::METHOD;
            const RATE_LIMITED: bool = <$theirs as ::ruma::api::Metadata>::RATE_LIMITED;
            type Authentication = <$theirs as ::ruma::api::Metadata>::Authentication;
            type PathBuilder = <$theirs as ::ruma::api::Metadata>::PathBuilder;
            const PATH_BUILDER: Self::PathBuilder =
                <$theirs as ::ruma::api::Metadata>::PATH_BUILDER;
        }
    };
}

pub(crate) use alike;
