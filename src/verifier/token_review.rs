//! TokenReview
