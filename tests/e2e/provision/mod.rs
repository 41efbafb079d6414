//! Packages, agents and setup commands: what a snapshot has in it besides the image.

mod managers;
