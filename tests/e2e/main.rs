//! End-to-end tests: the program, real virtual machines, real images, real users.

mod agents;
mod approval;
mod certificates;
mod check;
mod clone;
mod examples;
mod home;
mod images;
mod isolation;
mod kvm;
mod layers;
mod lifecycle;
mod lock;
mod network;
mod policy;
mod provision;
mod proxies;
mod registries;
mod robustness;
mod run;
mod sharing;
mod start;
mod streams;
mod terminals;
mod workspace;
