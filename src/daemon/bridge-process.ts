// An older varpd starts the stand-in under this file name when it restarts into this version.
import './handover/stand-in-process.js';
