//! The unit tests of this module run in the library.
