/**
 * The whole program at work on one machine and in one process: a target, a gateway, two clients, a visitor. Uses
 * both sides by their doors, as anybody could; nothing here is a short cut around the tunnel.
 */
export { type DemoOptions, type DemoPrint, runDemo } from './demo.ts'
