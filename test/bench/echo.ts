// The far end of Node's own channel between two processes (lookups.ts): sends back what comes.
process.on('message', (message) => process.send?.(message));
